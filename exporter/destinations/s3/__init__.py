"""The driver for Amazon S3 and its compatibles.

``settings`` is what a configuration says of a bucket and ``store`` the driver, over ``access`` (who asks),
``clients`` (what is kept open), ``errors`` (what a refusal means, and what a person does about it),
``answers`` (what a success has to say) and ``policies`` (who has to allow what, to copy). ``check`` is what
`check` finds out, and ``causes`` how it says it.
"""
