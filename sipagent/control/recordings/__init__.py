"""Recordings on disk: blocks into a journal while the call lasts, the journal into a file when it is over.

`recorder` hears the workers and owns the threads, `journal` is the file that grows, `shelf` the files that are kept,
`sealed` how both are encrypted. docs/recording.md describes what lies on the disk.
"""
