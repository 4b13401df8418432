"""From prompts to the features that the transformer reads; knows nothing of video.

encoder.py          T5 from its files, or the small byte encoder; begin here
cleaning.py         prompts as T5 was trained to read them
reader.py           what an encoder sees of a prompt, and what no longer fits
t5_tokenizer.py     T5's tokens without its library
t5_files.py         whether files of weights are whole and fit; reading T5's
byte_t5.py          the embedded encoder, a T5 over bytes
chunk_texts.py      the text of each chunk, with MAGI-1's special tokens
features.py         features read once, kept for other runs
"""
