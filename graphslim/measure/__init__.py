"""Measures: what graphs compute on given inputs, what their channels answer, how long they take."""
