"""One run on a device: model, clips, checkpoint and losses, shared by training and captioning."""
