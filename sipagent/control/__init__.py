"""The control process: supervises the workers, serves the API, keeps the live calls."""
