"""The network as seen from here: which addresses may be talked to, how, and why one does not answer.

``guard`` keeps addresses that a customer chose from leading anywhere inside, by what ``addresses`` are;
``session`` speaks https with what it lets through, over ``transport``, ``connections``, ``connecting`` and
``answers`` that end; ``diagnosis`` finds where the way to a host ends, and ``certificates`` why one is not
trusted. It must not know what is spoken there.
"""
