"""`ainode bench`: how fast the node is, beside what people use instead."""
