"""`ainode bench`: the speed of the node, beside other programs for the same task."""
