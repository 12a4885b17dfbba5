#!/usr/bin/env python3
"""Posts each event to the address in URL. The protocol: docs/destinations/process.md."""
import json
import os
import sys
import urllib.error
import urllib.request


def send(request):
    body = json.dumps(request['event']).encode()
    headers = {'Content-Type': 'application/json', 'Idempotency-Key': request['key']}
    try:
        post = urllib.request.Request(os.environ['URL'], body, headers)
        with urllib.request.urlopen(post, timeout=10) as response:
            return {'outcome': 'delivered', 'remote_id': response.headers.get('Location')}
    except urllib.error.HTTPError as error:
        outcome = {400: 'refused', 401: 'unauthorized', 404: 'misconfigured', 409: 'duplicate',
                   429: 'throttled'}.get(error.code, 'retry')
        wait = error.headers.get('Retry-After', '')
        answer = {'outcome': outcome, 'message': error.read(1000).decode(errors='replace')}
        return {**answer, 'retry_after_seconds': int(wait)} if wait.isdigit() else answer
    except OSError as error:
        return {'outcome': 'retry', 'message': str(error)}


for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({'id': request['id'], **send(request)}), flush=True)
