# What came of the second run and the check of a deployment, and what would have disturbed them.
# shellcheck shell=bash

came_of checked || true
came_of second || true
checked() { cat "$work/checked.log"; came_of checked && unchanged checked; }
again() { cat "$work/second.log"; came_of second && unchanged second; }
# Whatever somebody set, a start of the sensor turns it off: frames are kept as they were on the wire.
offloads() {
  inside s1 ethtool -K cap gro on && inside s1 ethtool -k cap | found 'generic-receive-offload: on' || { echo "the interface has none"; return 1; }
  inside s1 systemctl restart glasshive-sensor
  inside s1 ethtool -k cap | found 'generic-receive-offload: off' && until_true 20 linked s1
}

check "site again: changed=0" again
check "site --check: changed=0" checked
check "s1: receive offloads of the capture interface are off" offloads
