"""The destination for Splunk's HTTP Event Collector (HEC).

``settings`` is what a configuration says of a collector, at an ``address`` in any of its spellings. Above
is ``destination``: a delivery takes its batches from ``lines``, which reads ahead, and goes through a
``sender`` (batches, parts of them, single events) over ``wire`` (one request) and, where indexers
acknowledge, through ``acks``. ``codes`` is the one table of what Splunk answers and what follows, and
``check`` proves token and index with a real event.
"""
