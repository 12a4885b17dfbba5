#!/usr/bin/env python3
# A Wazuh integration as many are written: it reads the alert file, posts a message to a hook and
# logs to logs/integrations.log. Install it as root with its owner, group and mode:
#
#     install -o root -g wazuh -m 0750 custom-example.py /var/ossec/integrations/
#
# It works under wazuh-integratord as well as under Holdfast. Its exit codes tell Holdfast what to
# do: 0 delivered, 65 never to be taken (see exit_codes), 75 again later, 77 a bad credential.

import json
import os
import sys
import time
import urllib.error
import urllib.request

pwd = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
log_file = '{0}/logs/integrations.log'.format(pwd)
debug_enabled = False


def debug(message):
    if debug_enabled:
        with open(log_file, 'a') as log:
            log.write('{0}: {1}\n'.format(time.strftime('%a %b %d %H:%M:%S %Z %Y'), message))


def make_message(alert):
    rule = alert.get('rule', {})
    return {
        'title': rule.get('description', 'N/A'),
        'level': rule.get('level'),
        'rule_id': rule.get('id'),
        'agent': alert.get('agent', {}).get('name'),
        'log': alert.get('full_log', ''),
        'key': os.environ.get('HOLDFAST_KEY'),
    }


def main(args):
    global debug_enabled
    alert_file, api_key, hook_url = args[1], args[2], args[3]
    debug_enabled = len(args) > 4 and args[4] == 'debug'
    message = {}
    for arg in args[4:]:
        if arg.endswith('options'):
            with open(arg) as options:
                message.update(json.load(options))
    with open(alert_file) as file:
        message.update(make_message(json.load(file)))
    debug('Sending: {0}'.format(message))
    headers = {'Content-Type': 'application/json', 'Authorization': 'Bearer ' + api_key}
    request = urllib.request.Request(hook_url, json.dumps(message).encode(), headers)
    try:
        timeout = int(args[6]) if len(args) > 6 else 10
        with urllib.request.urlopen(request, timeout=timeout) as response:
            debug('Response: {0}'.format(response.status))
    except urllib.error.HTTPError as error:
        print('# Error: {0} {1}'.format(error.code, error.read().decode(errors='replace')))
        sys.exit(77 if error.code == 401 else 65 if error.code == 400 else 75)
    except OSError as error:
        print('# Error: {0}'.format(error))
        sys.exit(75)


if __name__ == '__main__':
    if len(sys.argv) < 4:
        print('# Error: Wrong arguments')
        sys.exit(78)
    main(sys.argv)
