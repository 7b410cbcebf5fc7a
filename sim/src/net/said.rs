//! What a machine was told, in short.

use teem_core::machine::{Input, JobOutput};

/// A line about an input: payloads as lengths, and nothing that takes lines.
pub(super) fn said(input: &Input<'_>) -> String {
    match input {
        Input::Job(id, Ok(JobOutput::Read(bytes))) => {
            format!("Job({id:?}, Read({} bytes))", bytes.len())
        }
        Input::Job(id, Ok(JobOutput::Hashed(_))) => format!("Job({id:?}, Hashed)"),
        Input::Job(id, Ok(JobOutput::Files(files))) => {
            let there = files.iter().flatten().count();
            format!("Job({id:?}, Files({there} of {}))", files.len())
        }
        Input::Job(id, Ok(output)) => format!("Job({id:?}, {output:?})"),
        Input::Job(id, Err(error)) => format!("Job({id:?}, failed: {error})"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use teem_core::ids::{JobId, Slab, StreamId};
    use teem_core::machine::StreamInput;

    #[test]
    fn payloads_are_lengths() {
        let job = Slab::<JobId, ()>::new().insert(());
        let read = Input::Job(job, Ok(JobOutput::Read(Bytes::from(vec![0; 16_384]))));
        assert!(said(&read).ends_with("Read(16384 bytes))"), "{}", said(&read));
        let stream = Slab::<StreamId, ()>::new().insert(());
        let received = StreamInput::Received(Bytes::from(vec![0; 99]));
        assert!(said(&Input::Stream(stream, received)).contains("Received(99 bytes)"));
    }
}
