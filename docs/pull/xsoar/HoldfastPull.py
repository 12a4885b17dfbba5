"""Cortex XSOAR integration: fetches Holdfast's events as incidents.

XSOAR stores the last run together with the incidents, so the cursor goes on only behind incidents
that exist.
"""
import json
import ssl
import urllib.error
import urllib.request

import demistomock as demisto

SEVERITIES = ((12, 4), (10, 3), (7, 2), (0, 1))


def ask(params, query):
    url = params["url"].rstrip("/")
    request = urllib.request.Request(f"{url}/v1/alerts?{query}")
    token = params["token"]
    request.add_header("Authorization", f"Bearer {token}")
    context = ssl.create_default_context()
    if params.get("insecure"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        return json.load(answer)


def incident(event):
    alert = event.get("alert") or event.get("data") or {}
    rule = alert.get("rule") or {}
    level = int(rule.get("level") or 0)
    return {
        "name": rule.get("description") or event["id"],
        "occurred": event["received_at"],
        "severity": next(severity for least, severity in SEVERITIES if level >= least),
        "dbotMirrorId": event["id"],
        "rawJSON": json.dumps(event),
    }


def fetch(params, last_run):
    """The new incidents, and the last run to be stored with them."""
    limit = min(int(params.get("max_fetch") or 50), 200)
    query = f"limit={limit}"
    if params.get("filter"):
        query += "&" + params["filter"]
    cursor = last_run.get("cursor")
    # The first time only what comes from now on, as XSOAR's users expect.
    place = f"&cursor={cursor}" if cursor else "&start=" + (params.get("start") or "newest")
    try:
        page = ask(params, query + place)
    except urllib.error.HTTPError as error:
        if error.code != 410:
            raise
        oldest = json.load(error)["oldest_cursor"]
        demisto.error("Holdfast: events have left the log before they were fetched")
        page = ask(params, f"{query}&cursor={oldest}")
    return [incident(event) for event in page["data"]], {"cursor": page["next_cursor"]}


def main():
    params, command = demisto.params(), demisto.command()
    if command == "test-module":
        ask(params, "limit=1&start=newest")
        demisto.results("ok")
    elif command == "fetch-incidents":
        incidents, last_run = fetch(params, demisto.getLastRun())
        demisto.incidents(incidents)
        demisto.setLastRun(last_run)
    else:
        raise NotImplementedError(command)


if __name__ in ("__main__", "__builtin__", "builtins"):
    main()
