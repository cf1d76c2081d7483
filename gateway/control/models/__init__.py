"""What the API answers and takes, by subject: what answers are made of when they are served, and what the OpenAPI
document says.

    shapes, words   what all of them have in common, and what they are made of
    the others      one file for each subject, mostly in the name of the file in `gateway.control.api` that serves it
"""
