"""Reference pages made from the code: every key of the configuration, every command, every path of the API."""

MADE = "Generated from the code by `make generate`."
