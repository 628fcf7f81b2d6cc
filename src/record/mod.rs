//! Record batches: a zero-copy view, validation, iteration and the codecs.
