"""The node as performer of workitems: a thread for each worklist."""
