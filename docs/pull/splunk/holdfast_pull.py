#!/usr/bin/env python3
"""Splunk scripted input: Holdfast's events on standard output, one line of JSON each.

Usage: holdfast_pull.py [SETTINGS], by default ../local/holdfast.json beside this file. The cursor is
kept only once the events are written, so a run that is killed repeats some and loses none.
"""
import json
import os
import sys
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def keep(path, cursor):
    """Whole or not at all."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(cursor)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def page(settings, token, cursor):
    query = "limit=1000" + (f"&cursor={cursor}" if cursor else "")
    if settings.get("filter"):
        query += "&" + settings["filter"]
    request = urllib.request.Request(f"{settings['url']}/v1/alerts?{query}")
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "local", "holdfast.json")
    settings = json.loads(read(path) or "{}")
    if not {"url", "token_file", "cursor_file"} <= settings.keys():
        print(f"{path}: url, token_file and cursor_file are needed", file=sys.stderr)
        return 2
    token, cursor = read(settings["token_file"]), read(settings["cursor_file"])
    while True:
        try:
            found = page(settings, token, cursor)
        except urllib.error.HTTPError as error:
            problem = json.loads(error.read() or "{}")
            print(f"holdfast: {error.code}: {problem.get('detail', '')}", file=sys.stderr)
            if error.code != 410:
                return 1
            # What retention has passed is gone; Splunk's own log says so.
            cursor = problem["oldest_cursor"]
            continue
        except OSError as error:
            print(f"holdfast: {error}", file=sys.stderr)
            return 1
        for event in found["data"]:
            print(json.dumps(event, separators=(",", ":")))
        sys.stdout.flush()
        cursor = found["next_cursor"]
        keep(settings["cursor_file"], cursor)
        if not found["has_more"]:
            return 0


if __name__ == "__main__":
    sys.exit(main())
