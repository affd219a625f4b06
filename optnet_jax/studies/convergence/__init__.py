"""The methods on F of Lemma 1: layers needed against the condition number."""
