#!/usr/bin/env python3
# In the manner of the integrations that people share: Wazuh's own structure, its exit codes, and
# nothing that knows of Holdfast.

import json
import os
import sys
import urllib.request

ERR_BAD_ARGUMENTS = 2
ERR_FILE_NOT_FOUND = 6
ERR_INVALID_JSON = 7

debug_enabled = False
pwd = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
LOG_FILE = f'{pwd}/logs/integrations.log'

ALERT_INDEX = 1
APIKEY_INDEX = 2
WEBHOOK_INDEX = 3


def main(args):
    global debug_enabled
    try:
        bad_arguments = False
        msg = ''
        if len(args) >= 4:
            debug_enabled = len(args) > 4 and args[4] == 'debug'
        else:
            msg = '# Error: Wrong arguments'
            bad_arguments = True
        with open(LOG_FILE, 'a') as f:
            f.write(msg + ' '.join(args[1:4]) + '\n')
        if bad_arguments:
            debug('# Error: Exiting, bad arguments. Inputted: %s' % args)
            sys.exit(ERR_BAD_ARGUMENTS)
        process_args(args)
    except Exception as e:
        debug(str(e))
        raise


def process_args(args):
    options_file_location = ''
    for idx in range(4, len(args)):
        if args[idx][-7:] == 'options':
            options_file_location = args[idx]
            break
    options = get_json_file(options_file_location, 'options') if options_file_location else {}
    alert = get_json_file(args[ALERT_INDEX], 'alert')
    send_msg(generate_msg(alert, options), args[APIKEY_INDEX], args[WEBHOOK_INDEX])


def get_json_file(path, what):
    try:
        with open(path, encoding='utf-8') as f:
            return json.load(f)
    except FileNotFoundError:
        debug(f'# JSON file for {what} {path} doesn\'t exist')
        sys.exit(ERR_FILE_NOT_FOUND)
    except json.decoder.JSONDecodeError as e:
        debug(f'Failed getting JSON {what}. Error: {e}')
        sys.exit(ERR_INVALID_JSON)


def generate_msg(alert, options):
    level = alert['rule']['level']
    msg = {
        'severity': 1 if level <= 4 else 2 if level <= 7 else 3,
        'title': alert['rule'].get('description', 'N/A'),
        'text': alert.get('full_log'),
        'rule_id': alert['rule']['id'],
        'id': alert['id'],
    }
    if options:
        msg.update(options)
    return json.dumps(msg)


def send_msg(msg, api_key, url):
    headers = {'content-type': 'application/json', 'Accept-Charset': 'UTF-8', 'X-Api-Key': api_key}
    request = urllib.request.Request(url, msg.encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as res:
        debug('# Response received: %s' % res.status)


def debug(msg):
    if debug_enabled:
        print(msg)
        with open(LOG_FILE, 'a') as f:
            f.write(msg + '\n')


if __name__ == '__main__':
    main(sys.argv)
