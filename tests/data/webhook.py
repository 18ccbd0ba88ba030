"""A receiver of webhooks that trusts nobody: checks the signature with its own HMAC, refuses old
timestamps, takes an id once. Each accepted body is a line of the file named first; the first requests
(as many as named third) are answered with 503. Then the port, and the address when it is not loopback."""

import hashlib
import hmac
import http.server
import json
import sys
import time

OUT, KEY, REFUSE = sys.argv[1], open(sys.argv[2], "rb").read().strip(), [int(sys.argv[3])]


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        stamp = self.headers["X-Glasshive-Timestamp"]
        wanted = "sha256=" + hmac.new(KEY, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        good = hmac.compare_digest(wanted, self.headers["X-Glasshive-Signature"]) and abs(time.time() - int(stamp)) < 60
        good = good and json.loads(body)["id"] == self.headers["X-Glasshive-Id"]
        status = 204 if good else 403
        if good and REFUSE[0] > 0:
            REFUSE[0] -= 1
            status = 503
        if status == 204:
            with open(OUT, "ab") as out:
                out.write(body + b"\n")
        self.send_response(status)
        self.end_headers()

    def log_message(self, *words):
        pass


server = http.server.HTTPServer((sys.argv[5] if len(sys.argv) > 5 else "127.0.0.1", int(sys.argv[4])), Receiver)
print("receiving", flush=True)
server.serve_forever()
