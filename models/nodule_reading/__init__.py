"""A lung nodule read from its outline, and every nodule of a chest CT: the networks of the other rooms, put together.

Nothing is imported here: `weights` names the files that a reading needs, without any network library.
"""
