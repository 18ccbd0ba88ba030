# What came of the second run and the check of a deployment, and what would have disturbed them.
# shellcheck shell=bash

checked_status=0 second_status=0
wait "$checked_pid" || checked_status=$?
wait "$second_pid" || second_status=$?
checked() { cat "$work/checked.log"; [ "$checked_status" = 0 ] && unchanged checked; }
again() { cat "$work/second.log"; [ "$second_status" = 0 ] && unchanged second; }
# Whatever somebody set, a start of the sensor turns it off: frames are kept as they were on the wire.
offloads() {
  inside s1 ethtool -K cap gro on && inside s1 ethtool -k cap | found 'generic-receive-offload: on' || { echo "the interface has none"; return 1; }
  inside s1 systemctl restart glasshive-sensor
  inside s1 ethtool -k cap | found 'generic-receive-offload: off' && until_true 20 linked s1
}

check "site again: changed=0" again
check "site --check: changed=0" checked
check "s1: receive offloads of the capture interface are off" offloads
