"""From evidence to a decision: rules, policy, waivers and judgement. Nothing here opens a model."""
