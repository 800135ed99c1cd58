"""The report of the records: `python -m spt.report`."""
