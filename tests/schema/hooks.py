"""What schemathesis has to know of this API beyond its document: what a cursor is, and which key it asks with."""

import os

import schemathesis
from hypothesis import strategies as st

OWN_KEY = os.environ["BAILIWICK_KEY"].split(":")[0]

# A cursor is opaque, and only good for the list that it came from; an empty one is the first page.
schemathesis.openapi.format("cursor", st.just(""))
# A time that is over: there is nothing to be said of the future.
schemathesis.openapi.format("past-date-time", st.datetimes().map(lambda t: t.replace(year=min(t.year, 2025)).isoformat() + "Z"))
# A key that was used for another request is refused, rightly; so each request has its own.
schemathesis.openapi.format("idempotency-key", st.uuids().map(str))
# Of an item that is there, whatever it is like.
schemathesis.openapi.format("entity-tag", st.just("*"))


@schemathesis.hook
def filter_case(context, case):
    """Not the key that all this is asked with: it would lock itself out, or take its own rights away."""
    path, query = case.path_parameters or {}, case.query or {}
    # Two rules over two parameters each, which no document can say; both are refused with 400.
    if query.get("privileged") == "true" and query.get("asOf"):
        return False
    if case.path.endswith("/compare") and "to" in query:
        return False
    return not (case.method != "GET" and case.path.startswith("/api/apikeys/") and path.get("id") == OWN_KEY)
