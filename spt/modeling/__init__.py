"""The paper: gated attention over prefixes, the selective loss, and how prefixes are put on an encoder."""
