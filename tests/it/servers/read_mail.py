"""Every mail of a Maildir as Python's own email package understands it: a line of JSON each."""

import email
import email.policy
import json
import pathlib
import sys

for path in sorted(pathlib.Path(sys.argv[1]).glob("new/*")):
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    parts = list(mail.walk())
    # Reading a header or a body is what finds its defects.
    headers = {name.lower(): str(value) for name, value in mail.items()}
    body = {part.get_content_type(): part.get_content() for part in parts if not part.is_multipart()}
    defects = [repr(defect) for part in parts for defect in part.defects]
    defects += [repr(defect) for value in mail.values() for defect in value.defects]
    print(json.dumps({"headers": headers, "body": body, "defects": defects}))
