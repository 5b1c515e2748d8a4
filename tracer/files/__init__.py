"""Safe readers of files that others made: nothing of them is executed, and their claims are checked before they cost
memory.
"""
