"""The published study's method, written anew from its description, to be timed beside ours."""
