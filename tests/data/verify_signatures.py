"""A receiver that believes only what the library `standardwebhooks` believes.

Started with two secrets, the old and the new one. `/old` knows the old one only, `/new` the new one
only. It answers 204 to a request that verifies and 400 to any other, and writes one line of JSON
about each. The first line of its output is its port.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

KNOWN = {'/old': Webhook(sys.argv[1]), '/new': Webhook(sys.argv[2])}
ONE_AT_A_TIME = threading.Lock()
SIGNED = ('webhook-id', 'webhook-timestamp', 'webhook-signature')


def verifies(webhook, body, headers):
    try:
        webhook.verify(body, headers, json_parse=False)
        return True
    except (WebhookVerificationError, UnicodeDecodeError):
        return False


def changed(body, headers):
    """Every single thing that a stranger could change, one at a time."""
    for at in {0, len(body) // 2, len(body) - 1}:
        # Another letter, so that it stays a text.
        letter = b'x' if body[at:at + 1] != b'x' else b'y'
        yield 'body', body[:at] + letter + body[at + 1:], headers
    yield 'body', body + b' ', headers
    yield 'body', body[:-1], headers
    yield 'id', body, {**headers, 'webhook-id': headers['webhook-id'] + '0'}
    later = str(int(headers['webhook-timestamp']) + 1)
    yield 'timestamp', body, {**headers, 'webhook-timestamp': later}
    for name in SIGNED:
        yield name, body, {key: value for key, value in headers.items() if key != name}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        headers = {name.lower(): value for name, value in self.headers.items()}
        webhook = KNOWN[self.path]
        verified = verifies(webhook, body, headers)
        believed = [what for what, body_, headers_ in changed(body, headers)
                    if verified and verifies(webhook, body_, headers_)]
        said = json.dumps({
            'path': self.path,
            'verified': verified,
            'believed_though_changed': believed,
            'key': headers['idempotency-key'],
            'id': headers['webhook-id'],
            'signatures': len(headers['webhook-signature'].split(' ')),
            'body': body.decode(),
        })
        with ONE_AT_A_TIME:
            print(said, flush=True)
        self.send_response(204 if verified else 400)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(('127.0.0.1', 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
