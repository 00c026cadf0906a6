"""Generated code, run where it can do no harm.

`runner.run_programs` runs it; `check.check_sandbox` says whether this machine can.
"""
