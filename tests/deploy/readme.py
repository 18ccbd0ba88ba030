"""Does what README.md says, word for word, on fresh hosts: its commands run where they say, its files are written where
they say. The hosts of readme.sh have the addresses of its examples; what is replaced all the same stands in PLACES.

readme.py README COMMAND… : COMMAND HOST SCRIPT runs SCRIPT on HOST (ctl, node, sensor, vis)."""

import json
import re
import subprocess
import sys
import time

TEXT = open(sys.argv[1]).read()
FIRST, LAST = "### Put up a whole deployment", "### What you can rely on"
HOME = {"Add a sensor": "sensor", "Review": "ctl", "Set up a controller": "ctl", "Back up, upgrade, rotate": "ctl"}
# Receivers that exist here.
PLACES = {"https://hooks.example.org/glasshive": "http://10.0.0.9:8090/hook", "10.99.0.5:6514": "10.0.0.9:8514", '"tls"': '"tcp"',
          "--host 10.0.0.5": "--host 10.66.0.50", "-o DIR": "-o /root/out", "2c909575": "{session}", "4f08ab21": "{finding}"}
# The other way to join; the deployment's second net goes it.
OTHER_WAY = re.compile(r"identity request|enroll .*--sign|identity install")
known = {}
done = 0


def run(host, script, stdin="", fine=(0,), limit=60):
    global done
    end = subprocess.run([*sys.argv[2:], host, script], input=stdin, capture_output=True, text=True, timeout=limit)
    if end.returncode not in fine:
        sys.exit(f"{host}: {script}\nexit code {end.returncode}\n{end.stdout[-2000:]}{end.stderr[-2000:]}")
    done += 1
    return end.stdout


def wait(what, look, limit=60):
    until = time.monotonic() + limit
    while not (found := look()):
        if time.monotonic() > until:
            sys.exit(f"{what} does not come: " + run("ctl", "glasshive nodes; glasshive doctor; journalctl -n 50 --no-pager", fine=range(256)))
        time.sleep(0.3)
    return found


def rows(words):
    return [json.loads(line) for line in run("ctl", f"glasshive --json {words}").splitlines()]


def connected(node):
    return lambda: any(row.get("node") == node and row.get("connected") for row in rows("nodes"))


def write(host, block):
    said = re.match(r"# (add to )?(/etc/\S+?):?(\s|$)", block)
    if not said:
        sys.exit(f"a block names no file: {block.splitlines()[0]}")
    how = ">>" if said[1] else ">"
    run(host, f"mkdir -p $(dirname {said[2]}); cat {how} {said[2]}", stdin=block + "\n")
    return said[2]


def host_of(path):
    return {"controller.toml": "ctl", "sensor.toml": "sensor"}.get(path.rsplit("/", 1)[-1], "node")


def visits():
    run("vis", "sshpass -p 'Summer2026!' ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
               "-o PreferredAuthentications=password -tt deploy@10.66.7.10 'uname -a; id'")
    run("vis", "curl -sk --max-time 10 https://10.66.7.10/ -o /dev/null; curl -s --max-time 10 'http://[fd00:66:7::10]/' -o /dev/null")
    # Root on the node tries to leave: the wall drops it, and the finding is critical.
    run("node", "ip route replace default via 10.66.0.1; timeout 2 bash -c '</dev/tcp/203.0.113.9/80'", fine=(1, 124))
    session = lambda: [row["session"] for row in rows("sessions --since 10m --service ssh") if "deploy" in json.dumps(row)]
    finding = lambda: [row["finding"] for row in rows("findings --since 10m") if row.get("detector") == "egress"]
    known["session"] = wait("the session", session)[0]
    known["finding"] = wait("the finding", finding)[0]


def command(host, line):
    for old, new in PLACES.items():
        line = line.replace(old, new)
    if "{session}" in line and not known.get("session"):
        visits()
    line = line.format(**known) if re.search(r"\{(session|finding)\}", line) else line
    if choice := re.search(r"(?<=--format )\S+\|\S+", line):
        # One after the other: jsonl|csv|cast|files.
        for one in choice[0].split("|"):
            command(host, line.replace(choice[0], one))
        return
    line = line.replace("-o /root/out", f"-o /root/out-{done}")
    stdin, fine = "", (0,)
    if "identity join" in line:
        stdin = known.pop("token")
    if "tail -f" in line:
        line, fine = f"timeout 3 {line}", (124,)
    if "glasshive restore" in line:
        # A new host, as far as the controller can tell.
        run(host, "systemctl stop glasshive-controller; mv /var/lib/glasshive/controller /root/before; "
                  "install -d -m 0700 -o glasshive -g glasshive /var/lib/glasshive/controller")
    if "dpkg -i" in line:
        line = f"cd /bundle && DEBIAN_FRONTEND=noninteractive {line}"
    out = run(host, line, stdin, fine)
    if " enroll " in line:
        known["token"] = re.search(r"^gh1\.\S+$", out, re.M)[0]
    if "--segment" in line:
        for other in ("ctl", "sensor"):
            run(other, "cat > /etc/glasshive/segment.toml", stdin=out)
    if "glasshive restore" in line:
        run(host, "systemctl start glasshive-controller")
        for node in ("node1", "sensor1"):
            wait(node, connected(node))
        if known["session"] not in [row["session"] for row in rows("sessions --since 1h --limit 1000")]:
            sys.exit("the restored controller does not know what was recorded before")
    if line.startswith("glasshive rotate "):
        wait("every node with the new roots", lambda: rows("rotate")[0]["behind"] == [])
    if line == "glasshive nodes":
        wait("node1", connected("node1"))
    if line == "systemctl enable --now glasshive-sensor":
        wait("sensor1", connected("sensor1"))


part = TEXT[TEXT.index(FIRST):TEXT.index(LAST)]
section, host, fence = "", "node", None
for line in part.splitlines():
    if fence is not None:
        if line == "```":
            block = "\n".join(fence)
            for old, new in PLACES.items():
                block = block.replace(old, new)
            name = re.search(r"/etc/\S+?(?=[:\s]|$)", block)[0]
            write(host_of(name), block)
            fence = None
        else:
            fence.append(line)
    elif line.startswith("### "):
        section = line[4:]
        host = HOME.get(section, "node")
    elif line.startswith("```"):
        fence = []
    elif line.startswith("    ") and not OTHER_WAY.search(line):
        words = re.split(r"\s{2,}#?\s*", line.strip(), maxsplit=1)
        note = words[1] if len(words) > 1 else ""
        where = re.search(r"on the (controller|node|sensor)", note)
        if where:
            host = {"controller": "ctl"}.get(where[1], where[1])
        command(host, words[0])
if not known.get("session"):
    sys.exit("README names no session any more")
print(f"{done} commands")
