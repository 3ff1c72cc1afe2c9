#!/usr/bin/env python3
"""Prints every record of the audit log, the newest first: one JSON object per line.

Standard library only. Set BAILIWICK_URL (https://bailiwick.example.org) and BAILIWICK_KEY (<id>:<secret>).
"""
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request


def get(path, **query):
    """One answer; waits and asks again when the appliance says so."""
    while True:
        request = urllib.request.Request(
            f"{os.environ['BAILIWICK_URL']}{path}?{urllib.parse.urlencode(query)}",
            headers={"Authorization": f"ApiKey {os.environ['BAILIWICK_KEY']}", "Api-Version": "v1"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503):
                raise SystemExit(f"{error.code}: {json.load(error)['message']}") from None
            time.sleep(int(error.headers.get("Retry-After", "1")))


cursor = ""
while True:
    page = get("/api/logs", limit=500, cursor=cursor)
    for record in page["logs"]:
        print(json.dumps(record, ensure_ascii=False))
    cursor = page.get("next")
    if cursor is None:
        break
