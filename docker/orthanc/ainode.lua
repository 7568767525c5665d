-- The automatic part where Orthanc has no Python plugin: each stable study goes to the node.
--
-- Two ways. With AINODE_URL and AINODE_TOKEN in the environment the node is told, and pulls the study. Without them
-- the study is sent by C-STORE to the modality AINODE (DicomModalities in orthanc.json). Lua cannot wait and try
-- again: a node that is down misses the study, until it is sent by hand or changes; the Python plugin does not.

local function is_result(series)
   -- The node names itself in Manufacturer's Model Name of all it makes.
   local instance = ParseJson(RestApiGet('/series/' .. series)).Instances[1]
   local tags = ParseJson(RestApiGet('/instances/' .. instance .. '/simplified-tags'))
   return tags.ManufacturerModelName == 'ainode'
end

function OnStableStudy(study, tags, metadata)
   local instances = {}
   for _, series in ipairs(ParseJson(RestApiGet('/studies/' .. study)).Series) do
      if not is_result(series) then
         for _, instance in ipairs(ParseJson(RestApiGet('/series/' .. series)).Instances) do
            table.insert(instances, instance)
         end
      end
   end
   if #instances == 0 then
      return
   end

   local url, token = os.getenv('AINODE_URL'), os.getenv('AINODE_TOKEN')
   if url and token then
      -- The identifier, not the UID alone: of a second patient under the same UID Orthanc has another study.
      local question =
         { peer = os.getenv('AINODE_PEER') or 'orthanc', orthanc_study = study, instances = #instances }
      local headers = { ['Authorization'] = 'Bearer ' .. token, ['Content-Type'] = 'application/json' }
      local answer = HttpPost(url .. '/studies/' .. tags.StudyInstanceUID .. '/announce', DumpJson(question), headers)
      if not answer then
         PrintRecursive('ainode: the node did not take the announcement')
      end
   else
      -- SendToModality(study, 'AINODE') would report success here and send nothing.
      RestApiPost('/modalities/AINODE/store', DumpJson(instances))
   end
end
