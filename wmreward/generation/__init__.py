"""The command that generates with MAGI-1: where generator, rewards and files meet.

    cli.py              the command; begin here
    flags.py            its flags
    steering_flags.py   those of guidance, rewards and search
    early.py            what is wrong at first sight, told at once
    asked.py            the same of guidance, search and rewards
    configured.py       the configuration as flags change it
    job.py              from flags to what a run needs
    planned.py          what a run would take
    room.py             videos that no memory holds
    inputs.py           the image or video that it starts from
    unused.py           flags without effect, named
    foreign.py          videos that the embedded world models cannot judge
    steering.py         guidance, particles and rewards, from flags
    workshop.py         what a run works with
    run.py              one video, or a choice
    output.py           the files of one video
    progress.py         what is said meanwhile
    search/             several candidates
    batch/              whole job lists

The only room that knows both `magi1` and the rest.
"""
