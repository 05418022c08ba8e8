"""Other people's libraries, measured in the same run: each by a program that its own interpreter runs.

They are no dependencies of the project: `environments` makes a virtual environment for each on demand, and one that
does not install is named with the reason instead. The programs, and what they import from here, run on Python 3.8.
"""
