-- agent_set: what an operator says about an agent: pause, resume, retire.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 agent | 5 verb (pause, resume, retire) | 6 ms until the deadline of a retire, 0 for the others
-- Returns {outcome, leases held}
-- Outcomes paused, resumed, retiring, retired, already, refused, unknown
-- Keeps   what the agent holds and what it says of itself; a retire that is sent again puts its deadline off never
-- Uses    agent
local id, verb, wait_ms = ARGV[4], ARGV[5], int(ARGV[6], 0, 2592000000, 'deadline_ms')
if not string.find(' pause resume retire ', ' ' .. tostring(verb) .. ' ', 1, true) then bad('verb: ' .. tostring(verb)) end
local a = load_agent(id)
if not a then return { 'unknown', 0 } end

local word, until_ms = string.match(a.admin, '^(%a*)|?(%d*)')
local function say(outcome, admin)
  a.admin = admin
  redis.call('HSET', k_agent(id), 'admin', admin)
  event('agent_' .. outcome, '-', id, str(a.n))
  return outcome
end

local function pause()
  if word == 'paused' then return 'already' end
  if word ~= '' then return 'refused' end
  return say('paused', 'paused')
end

local function resume()
  if word == '' then return 'already' end
  untell(a)
  a.freed_us = now_us
  return say('resumed', '')
end

local function retire()
  if word == 'retired' or (word == 'retiring' and tonumber(until_ms) <= now_ms + wait_ms) then return 'already' end
  untell(a)
  if a.state ~= 'live' then return say('retired', 'retired') end
  local deadline_ms = str(now_ms + wait_ms)
  local entry = redis.call('XADD', k_inbox(id), '*', 'v', '1', 'kind', 'retire', 'deadline_ms', deadline_ms)
  redis.call('ZADD', K.agent_timers, 'LT', deadline_ms, id)
  return say('retiring', 'retiring|' .. deadline_ms .. '|' .. entry)
end

local outcome = ({ pause = pause, resume = resume, retire = retire })[verb]()
save_agents()
save_common()
return { outcome, a.n }
