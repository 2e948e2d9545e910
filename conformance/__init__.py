"""The conformance suite of copick's mlcroissant format; README.md says how it is used.

It stands on the standard library alone and imports no implementation, so it judges all of them alike.
"""
