"""Lines for people and programs to read: one for each request, and what the program says about itself.

    lines         lines on their way to a file descriptor; nothing waits for it
    files         the same, in files of a directory
    render        values as text that is safe in a log
    access        one line for each request
    application   stdlib logging, through the same writer

`error_lines`, `hook_lines` and `validation_lines` tell the application log what happens often, in few lines.
"""
