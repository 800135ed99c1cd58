"""The version of the numerics: which runs can be compared number by number."""

# Raised by every change after which the same config gives other numbers: attention, loss, dropout, initialisation, the
# order of examples, optimisation, tokenisation, scores. Records keep it, tables mark records of another version, and
# tests/training/test_numerics.py fails where numbers change and this does not.
NUMERICS = 2
