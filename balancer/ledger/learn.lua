-- Learning: what the tries of a call teach, each once, as the removal of its lease let it count. Twin of core/effort.py.
-- All that a call brings to a cell counts at once; cells are read once and written once.
local LESSONS, FACTS = {}, {}

-- A try ended: after so many ms of work by what its agent says, or (nil) it failed. is_paced: the agent was loaded with its pace for it.
local function note_lesson(t, a, said_ms, is_paced)
  if not said_ms and not is_paced then return end
  t.kind, t.by, t.said_ms, t.is_paced = kind_of(t, t.category), a, said_ms, is_paced
  LESSONS[#LESSONS + 1] = t
end

-- The estimate that a task bears: expected_ms, ln of its prior, ln(expected / prior).
local function facts_of(e)
  local f = FACTS[e]
  if not f then
    local expected_ms, prior_ms = string.match(e, '^(%d+)|%d+|%d+|(%d+)$')
    f = { expected_ms = tonumber(expected_ms), log_prior = math.log(prior_ms), log_ratio = math.log(expected_ms / prior_ms) }
    FACTS[e] = f
  end
  return f
end

-- How long it worked, ms. Nobody works longer than it held the task: what is odd is held against that.
local function took_of(t, said_ms, expected_ms)
  if said_ms >= 1 and said_ms <= 10 * expected_ms then return said_ms end
  local held_ms = (now_us - tonumber(string.match(redis.call('HGET', k_task(t.id), 'grant'), '^%d+'))) / 1000
  if said_ms < 1 then said_ms = held_ms end
  return math.max(1, math.min(said_ms, held_ms, 31536000000))
end

-- k observations of this sum at once, in a mean that forgets beyond `cap` of them.
local function observe_all(c, sum, k, cap)
  local n = math.min(c.n + k, cap)
  c.n, c.mean = n, c.mean + (sum / k - c.mean) * math.min(1, k / n)
end

-- What the ladder of a kind says before this call teaches it, and what the call brings.
local function begin(kind)
  local var = variance(kind)
  -- Only a ladder that knows the work can tell how fast an agent was.
  kind.mean, kind.var, kind.is_known = log_factor(kind), var, kind[2].n >= FEW and kind[3].n >= 8
  kind.k, kind.sum, kind.squares, kind.errors, kind.took_ms, kind.work, kind.median = 0, 0, 0, 0, 0, 0, 0
  return kind.mean
end

local function learn(t)
  local kind, a, said_ms, is_paced = t.kind, t.by, t.said_ms, t.is_paced
  local mean = kind.mean or begin(kind)
  a.var = a.var or kind.var
  if not said_ms then return note_try(a, 0) end
  local facts = facts_of(t.e)
  local took_ms = took_of(t, said_ms, facts.expected_ms)
  local taken, log_declared, log_speed = math.log(took_ms) - facts.log_prior, log_speeds(a.class, t.category)
  local x = math.max(-kind.most_x, math.min(kind.most_x, taken + log_speed))
  if is_paced and kind.is_known then note_pace(a, t.category, mean - (x - log_speed) - log_declared, kind.var) end
  if is_paced then note_try(a, 1) end
  kind.k, kind.sum, kind.squares = kind.k + 1, kind.sum + x, kind.squares + (x - mean) * (x - mean)
  kind.errors, kind.took_ms = kind.errors + math.abs(x - facts.log_ratio), kind.took_ms + took_ms
  kind.work, kind.median = kind.work + math.exp(facts.log_prior + x), kind.median + math.exp(facts.log_prior + mean)
end

local function gather(c, sum, k) c.sum, c.k = (c.sum or 0) + sum, (c.k or 0) + k end

-- The moving mean of the durations of a role's completed tries, in whole us.
local function save_service(role, sum_ms, k)
  local f = redis.call('HMGET', k_role(role), 'service_n', 'service_us')
  local s = { n = tonumber(f[1] or 0), mean = tonumber(f[2] or 0) }
  observe_all(s, 1000 * sum_ms, k, 300)
  redis.call('HSET', k_role(role), 'service_n', str(s.n), 'service_us', str(s.mean))
end

-- The wide cells also keep how much the ladder leaves unexplained, once there was one to explain anything; a role whose scale is another
-- than when its waiting tasks were scored asks for that.
local function save_wide(c, role)
  if c.n > 0 then
    local n2 = math.min(c.n2 + c.k, 500)
    local share = math.min(1, c.k / n2)
    c.n2, c.var = n2, c.var + (c.squares / c.k - c.var) * share
    c.work, c.median = c.work + (c.works / c.k - c.work) * share, c.median + (c.medians / c.k - c.median) * share
  end
  observe_all(c, c.sum, c.k, 500)
  if role and c.n >= FEW and math.abs(c.mean - c.scored) > 0.6931 then
    c.scored = c.mean
    redis.call('HSET', K.rescore, role, str(math.max(now_us, clock_us)) .. '|0|')
  end
  return string.format('%d %.4f %d %.4f %.4f %.0f %.0f', c.n, c.mean, c.n2, c.var, c.scored, c.work, c.median)
end

-- Cells live in two generations: a full one becomes the old one, and what nobody needed since is forgotten.
local function save_cells(kinds)
  local wide, texts, took = {}, {}, {}
  for _, kind in pairs(kinds) do
    for i, c in ipairs(kind) do
      gather(c, kind.sum, kind.k)
      if i <= 2 then
        wide[c], c.squares = i == 2 and kind.role, (c.squares or 0) + kind.squares
        c.works, c.medians = (c.works or 0) + kind.work, (c.medians or 0) + kind.median
      end
    end
    for _, c in ipairs(kind.errs) do gather(c, kind.errors, kind.k) end
    took[kind.role] = took[kind.role] or { 0, 0 }
    took[kind.role] = { took[kind.role][1] + kind.took_ms, took[kind.role][2] + kind.k }
  end
  for name, c in pairs(CELLS) do
    if c.k then
      local said
      if wide[c] ~= nil then said = save_wide(c, wide[c]) else
        observe_all(c, c.sum, c.k, string.sub(name, 1, 1) == 'x' and 100 or 30)
        said = string.format('%d %.4f', c.n, c.mean)
      end
      texts[#texts + 1], texts[#texts + 2] = name, said
    end
  end
  if HAS_NEW_CELLS and redis.call('HLEN', K.est) >= 50000 then
    redis.call('UNLINK', K.est_old)
    redis.call('RENAME', K.est, K.est_old)
  end
  redis.call('HSET', K.est, unpack(texts))
  for role, sum in pairs(took) do save_service(role, sum[1], sum[2]) end
end

-- To be called before save_agents.
local function learn_all()
  if #LESSONS == 0 then return end
  local kinds, lessons = {}, {}
  for _, t in ipairs(LESSONS) do
    local kind = t.kind
    -- When the last of a class has stopped, nobody knows any more how fast it said it was.
    if class_of(t.by.class).is_known then
      lessons[#lessons + 1] = t
      if t.said_ms and not kinds[kind] then
        kinds[kind], kind.errs = kind, { cell('x:' .. kind.role .. ':' .. kind.category), cell('x:' .. kind.role) }
      end
    end
  end
  read_cells()
  for _, t in ipairs(lessons) do learn(t) end
  if next(kinds) then save_cells(kinds) end
  save_paces()
end
