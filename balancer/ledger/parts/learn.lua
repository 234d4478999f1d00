-- Learning: what the tries of a call teach, each once, as the removal of its lease let it count. Twin of core/effort.py.
-- All that a call brings to a cell counts at once: it is held against what the ladder said before the call.
-- What is named in here is for here only: a script may have 200 names that all of it knows.
local note_lesson, learn_all
do
  -- FACTS: by the text of an estimate. TAUGHT: the kinds that tries completed of. SHOWN: the tries that show their agent's pace.
  local FACTS, TAUGHT, SHOWN, TOOK = {}, {}, {}, {}

  -- How far off estimates were: of the role and category, and of the role.
  local function error_cells(stem)
    stem.off, stem.off_role = cell('x:' .. stem.role .. ':' .. stem.category), cell('x:' .. stem.role)
    CAPS[stem.off], CAPS[stem.off_role] = 100, 100
  end

  -- A try ended: after so many ms of work by what its agent says, or (nil) it failed. is_paced: the agent was loaded with its pace for it.
  note_lesson = function(t, a, said_ms, is_paced)
    if not (said_ms or is_paced) then return end
    local kind = kind_of(t, t.category)
    if is_paced then t.by, t.said_ms, t.stem, SHOWN[#SHOWN + 1] = a, said_ms, kind.stem, t end
    if not said_ms then return end
    local tries = kind.tries
    if tries then
      local n = #tries
      tries[n + 1], tries[n + 2], tries[n + 3] = t, a, said_ms
    else
      kind.tries, TAUGHT[#TAUGHT + 1] = { t, a, said_ms }, kind
      if not kind.stem.off then error_cells(kind.stem) end
    end
  end

  -- The estimate that a task bears: expected_ms, prior_ms and its ln, ln(expected / prior).
  local function facts_of(e)
    local expected_ms, prior_ms = string.match(e, '^(%d+)|%d+|%d+|(%d+)$')
    local f = { most_ms = 10 * expected_ms, prior_ms = tonumber(prior_ms), log_prior = math.log(prior_ms), log_ratio = math.log(expected_ms / prior_ms) }
    FACTS[e] = f
    return f
  end

  -- How long it worked, ms, where what its agent says is odd. Nobody works longer than it held the task. Nil where nobody can tell: the
  -- clock may have gone back since it got the task.
  local function held_ms(t, said_ms)
    local held = (now_us - tonumber(string.match(redis.call('HGET', k_task(t.id), 'grant'), '^%d+'))) / 1000
    if said_ms < 1 then said_ms = held end
    return held >= 1 and math.min(said_ms, held, 31536000000) or nil
  end

  -- What the completed tries of a kind bring to its cells; those that are looked at for a pace keep what they say of it.
  local function learn(kind)
    local stem, tries, log, facts, mean = kind.stem, kind.tries, math.log, FACTS, log_factor(kind)
    local category, most, k, sum, squares, errors, took, priors, work = stem.category, stem.most_x, 0, 0, 0, 0, 0, 0, 0
    -- Only a ladder that knows the work can tell how fast an agent was.
    local is_known = N[stem.of_role] >= FEW and N[stem.own] >= 8
    for j = 1, #tries, 3 do
      local t, ms, s = tries[j], tries[j + 2], speeds_at(tries[j + 1].class, category)
      local f = facts[t.e] or facts_of(t.e)
      if ms < 1 or ms > f.most_ms then ms = held_ms(t, ms) end
      -- When the last of a class has stopped, nobody knows any more how fast it said it was.
      if s and ms then
        local x = log(ms) - f.log_prior + s.log_speed
        if x > most or x < -most then
          x = math.max(-most, math.min(most, x))
          work = work + f.prior_ms * math.exp(x)
        else
          work = work + ms * s.speed
        end
        if t.by and is_known then t.faster = mean - (x - s.log_speed) - s.log_declared end
        local off, far = x - f.log_ratio, x - mean
        if off < 0 then off = -off end
        k, sum, squares, errors, took, priors = k + 1, sum + x, squares + far * far, errors + off, took + ms, priors + f.prior_ms
      end
    end
    if k == 0 then return end
    local median = priors * math.exp(mean)
    bring_wide(stem.basis, sum, k, squares, work, median)
    bring_wide(stem.of_role, sum, k, squares, work, median)
    bring(stem.own, sum, k)
    for j = 1, #kind do bring(kind[j], sum, k) end
    bring(stem.off, errors, k)
    bring(stem.off_role, errors, k)
    local of_role = TOOK[stem.role] or { k = 0, ms = 0 }
    of_role.k, of_role.ms, TOOK[stem.role] = of_role.k + k, of_role.ms + took, of_role
  end

  -- The moving mean of the durations of a role's completed tries, in whole us.
  local function save_service(role, sum_ms, k)
    local f = redis.call('HMGET', k_role(role), 'service_n', 'service_us')
    local n, mean = observed(tonumber(f[1] or 0), tonumber(f[2] or 0), 1000 * sum_ms, k, 300)
    redis.call('HSET', k_role(role), 'service_n', str(n), 'service_us', str(mean))
  end

  -- To be called before save_agents.
  learn_all = function()
    read_cells()
    for _, kind in ipairs(TAUGHT) do learn(kind) end
    for _, t in ipairs(SHOWN) do
      local a, var = t.by, variance(t.stem)
      if class_of(a.class).is_known then
        a.var = a.var or var
        if t.faster then note_pace(a, t.category, t.faster, var) end
        note_try(a, t.said_ms and 1 or 0)
      end
    end
    for role, of_role in pairs(TOOK) do save_service(role, of_role.ms, of_role.k) end
    save_cells()
    save_paces()
  end
end
