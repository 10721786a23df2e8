"""What can happen to a caller, one kind of step a file; the entry points in pyproject.toml name them.

To add one of your own: subclass `sipagent.flow.machine.Step` in a package of yours, name it under the entry
point `sipagent.steps`, and give it its table: `[steps.KIND.NAME]`. In destinations it is `KIND:NAME`.
"""
