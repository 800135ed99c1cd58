"""What the prefixes of a trained adapter learned: how alike slots are, how the gate chooses, what each part does.

inspect_adapter has `spt.inspect`. text_batches makes its inputs, attention_sums adds up what attention computes on
them, attention_measures makes measures of the sums, interventions scores the adapter with parts changed, result is what
comes out, and compare_runs puts the results of several runs side by side.
"""
