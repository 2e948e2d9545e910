"""Adapters of the conformance suite around the implementations that this repository can run."""
