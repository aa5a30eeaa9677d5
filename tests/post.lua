-- For wrk: POST a message of 60 characters; one line with what tests/measure.py reads.
wrk.method = "POST"
wrk.body = '{"msg":"a message of an ordinary length, some 60 characters."}'
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %.3f %.3f %.3f\n", summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency:percentile(99.9) / 1000))
end
