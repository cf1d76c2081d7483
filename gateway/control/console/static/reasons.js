// What an error or a refusal means, and what to do about it. The gateway knows a title for every reason; what is written
// here comes on top for those that an operator meets most.

import { state } from "./state.js";

const ADVICE = {
  upstream_status: "The upstream answered with a status that counts as a failure. Its own log has more, under the same request id.",
  upstream_timeout: "No answer came within the time of one attempt. See whether it is slow or overloaded before the time limit is raised.",
  upstream_unreachable: "Nobody listens there, the name has no address, or the network between is broken. Check that the upstream runs.",
  upstream_protocol_error: "Does the port belong to this service, and is it HTTP and not HTTPS, or the other way round?",
  upstream_truncated: "The connection broke within the body. The client saw that its answer is not whole.",
  circuit_open: "The upstream kept failing, so its circuit is open: requests are refused at once until a probe succeeds. Look at what tripped it.",
  bulkhead_full: "As many requests are in flight at this upstream as it gets. Usually it has become slow; see its p95 first.",
  overloaded: "MAX_INFLIGHT requests are in flight in all. Usually one upstream has become slow. Scale out, or raise the cap.",
  rate_limited: "This client has used up its tokens. That is the limit at work; the view Limits shows who asks most.",
  draining: "This gateway, or a worker of it, was stopping. Clients should have gone elsewhere already.",
  not_found: "No route matches host and path. The view Explain says why each route does not.",
  endpoints_out: "An operator has taken out every endpoint of this upstream. Enable one.",
  unauthenticated: "No credential, or one that does not count.",
  forbidden: "The credential is good, but the route is not for its owner.",
  client_closed: "The client left before the end of its answer. Often it has a shorter time limit than the upstream needs.",
  journal_unavailable: "What the route promises cannot be written down. Check the journal's file or its PostgreSQL.",
};

export function meaning(each) {
  const title = state.settings.reasons?.[each.reason];
  const advice = ADVICE[each.reason];
  if (title && advice) return `${title}. ${advice}`;
  return advice ?? (title ? `${title}.` : each.message);
}
