"""The driver for Amazon S3 and its compatibles.

``settings`` is what a configuration says of a bucket and ``store`` the driver, over ``access`` (who asks),
``wire`` (how requests go out), ``clients`` (what is kept open), ``errors`` (what a refusal means), ``advice``
(what a person does about it), ``words`` (what of it can be shown), ``answers`` (what a success has to say),
``proofs`` (what other stores than Amazon's have to show first) and ``policies`` (who has to allow what, to
copy). ``check`` is what `check` finds out, and ``causes`` how it says it.
"""
