"""Which way a call goes: routes in order, opening hours. Pure: facts and a time in, a decision and its reasons out."""
