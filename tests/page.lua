-- For wrk: GET pages of 100 that begin anywhere; the ids to begin after come as arguments. One line as post.lua prints it.
local cursors = {}
init = function(args)
  for i, cursor in ipairs(args) do cursors[i] = cursor end
end
request = function()
  return wrk.format("GET", "/v1/messages?limit=100&after=" .. cursors[math.random(#cursors)])
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %.3f %.3f %.3f\n", summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency:percentile(99.9) / 1000))
end
