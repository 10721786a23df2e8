"""The records: what happened to every call, kept in a database for as long as the operator says.

An event's way: `recorder` masks what must not be kept (`redaction`) and puts it in the `spool`, a file that survives
a crash; from there it goes in batches through `fold`, which makes rows of events, into the `store`. Only the control
process has a database; a worker never waits for one.
"""
