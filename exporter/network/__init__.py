"""The network as seen from here: which addresses may be talked to, and why one does not answer.

``guard`` keeps addresses that a customer chose from leading anywhere inside; ``diagnosis`` finds where the
way to a host ends. It must not know what is spoken there.
"""
