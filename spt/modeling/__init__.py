"""The paper: gated attention over prefixes, the selective loss, and how both enter an encoder."""
